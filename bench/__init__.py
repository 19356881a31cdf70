"""What xdplb costs, beside a floor and beside what else could be used; see README.md."""
