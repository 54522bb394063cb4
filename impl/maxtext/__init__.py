"""MaxText's configuration format: model files (models/*.yml) and resolved configurations, read into ModelConfig."""

from impl.maxtext.reading import Ignored, Reading, from_maxtext, read, read_maxtext

__all__ = ["Ignored", "Reading", "from_maxtext", "read", "read_maxtext"]
