"""OneHull: multi-task ranking with one shared bottom and a tower for each task."""
