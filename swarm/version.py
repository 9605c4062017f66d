"""The version of this package, which programs are told and which a release raises."""

__version__ = "0.1.0"
