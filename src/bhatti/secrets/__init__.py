"""What is kept secret at rest: age encryption (https://age-encryption.org/v1) and the file of its keys."""
