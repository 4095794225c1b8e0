"""One page that shows a whole search: figures by plotly, a table to choose from, how it was run."""
