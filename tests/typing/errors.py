"""Mistakes, each with the code of the error that mypy must report in its line."""

import softline
from softline import SoftmaxClassifier, export, optimizers, plots, save_model
from softline.cs231n.classifiers import Softmax
from softline.datasets import load_digits
from softline.linear_model import LogisticRegression
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

softline.SoftMaxClassifier()  # attr-defined
data = load_digits(validation_fraction="0.1")  # arg-type
data.X_training.sum()  # attr-defined
data.name = "mine"  # misc

SoftmaxClassifier(solver="newton")  # arg-type
SoftmaxClassifier(optimizer="adamm")  # arg-type
SoftmaxClassifier(1e-3)  # call-arg
SoftmaxClassifier(learningrate=0.1)  # call-arg
SoftmaxClassifier(batch_size="full")  # arg-type
SoftmaxClassifier().fit(data.X_train)  # call-arg
SoftmaxClassifier().fit(data, data.y_train)  # arg-type
SoftmaxClassifier().fit(data.X_train, data.y_train, callback="stop")  # arg-type
SoftmaxClassifier().predict_proba(data.X_test).to_numpy()  # attr-defined
accuracy: int = SoftmaxClassifier().score(data.X_test, data.y_test)  # assignment
optimizers.Adam(beta="0.9")  # call-arg
LogisticRegression(C="1")  # arg-type
MLPClassifier(hidden_layer_sizes=("100",))  # arg-type
MLPClassifier(activation="sigmoid")  # arg-type
KNeighborsClassifier(metric=3)  # arg-type
save_model(SoftmaxClassifier())  # call-arg
plots.TemplatesDisplay.from_estimator(SoftmaxClassifier(), image_shape=64)  # arg-type
plots.KFoldDisplay.from_cv_results({}, ["alpha", "tol"])  # arg-type
export.to_onnx("model.safetensors")  # arg-type
export.to_torch(SoftmaxClassifier)  # arg-type
Softmax().train(data.X_train, data.y_train, num_iters=1.5)  # arg-type
