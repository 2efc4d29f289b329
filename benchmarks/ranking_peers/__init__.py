"""Networks of other libraries on the rows of docs/ranking.md, judged by this project's metrics."""
