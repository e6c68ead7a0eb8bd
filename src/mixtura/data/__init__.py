"""Where rows come from."""

from mixtura.data.files import Columns, TableError, read_table

__all__ = ["Columns", "TableError", "read_table"]
