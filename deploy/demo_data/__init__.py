"""Data of the demo: PadChest reports, an image array or generated reports, in one shape on disk (`sites.py`)."""
