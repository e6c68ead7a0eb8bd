"""Fitted models for other programs: graphs in ONNX, estimators of scikit-learn."""
