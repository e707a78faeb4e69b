"""Files from outside and on their way out: tables and YAML, in constant memory, errors with their place."""

from fleet.files.json_objects import json_objects
from fleet.files.places import LIMITS, FileError, Limits, Row, RowFault, Value
from fleet.files.tables import TableReader, table_open
from fleet.files.writers import Sheet, book_write, csv_write, json_write, xlsx_write
from fleet.files.yaml_files import yaml_documents, yaml_read

__all__ = [
    "LIMITS",
    "FileError",
    "Limits",
    "Row",
    "RowFault",
    "Sheet",
    "TableReader",
    "Value",
    "book_write",
    "csv_write",
    "json_objects",
    "json_write",
    "table_open",
    "xlsx_write",
    "yaml_documents",
    "yaml_read",
]
