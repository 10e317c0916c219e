"""What is optimised: one file a representation, named in recipes by its file name."""
