"""Tables of rows, read from files."""

from mixtura.data.files import Columns, TableError, TextLayout, column_names, read_table

__all__ = ["Columns", "TableError", "TextLayout", "column_names", "read_table"]
