"""The operations, one module per topic; `bhatti.operations.table` puts them together."""
