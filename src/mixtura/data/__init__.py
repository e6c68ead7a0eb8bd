"""Where rows come from."""

from mixtura.data.files import Columns, Layout, TableError, column_names, read_table

__all__ = ["Columns", "Layout", "TableError", "column_names", "read_table"]
