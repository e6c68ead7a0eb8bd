"""Tables of rows: read whole from files, or block by block from where they are."""

from mixtura.data.files import Columns, TableError, TextLayout, column_names, read_table
from mixtura.data.sources import Streamed, as_source

__all__ = ["Columns", "Streamed", "TableError", "TextLayout", "as_source", "column_names", "read_table"]
