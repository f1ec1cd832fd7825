"""The promises of the library, one test each."""
