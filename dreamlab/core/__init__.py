"""Types shared by every layer. Import the submodules; this package imports nothing by itself."""
