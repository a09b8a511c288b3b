"""Errors of models and of their inputs.

ModelError (RuntimeError)
|-- ModelMissing        the model file or its manifest is not there
|-- ModelTampered       the file is not the one that the manifest describes
|-- ModelIncompatible   trained by another scikit-learn, or on unknown inputs
+-- ModelMalformed      not a serialised forest, or golden rows not reproduced

InvalidInput (ValueError)   the inputs are missing or not finite: such a row is never scored
"""


class ModelError(RuntimeError):
    """The model bundle cannot be used; the message says what to do."""


class ModelMissing(ModelError, FileNotFoundError):
    """The model file or its manifest does not exist."""


class ModelTampered(ModelError):
    """The SHA-256 of the model file is not the manifest's, or the manifest is not signed."""


class ModelIncompatible(ModelError):
    """The scikit-learn version or the inputs differ from those that the model was trained with."""


class ModelMalformed(ModelError):
    """The file is not a serialised IsolationForest or does not reproduce its golden rows."""


class InvalidInput(ValueError):
    """Model inputs are missing or not finite."""
