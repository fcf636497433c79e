"""From findings to tables, figures and reports."""
