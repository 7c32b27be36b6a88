"""The JSON of the API, one module per topic; `bhatti.operations.types` puts them together."""
