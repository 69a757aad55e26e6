"""The page that a run, a sweep or several runs side by side are shown on: `report.html`."""
