"""How the controller's work grows with services, backends and slots: `python -m bench.control`."""
