"""Images from elsewhere: container registries, image layouts and archives, made into root file systems."""
