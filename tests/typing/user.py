"""What users write, for ``mypy --strict`` to accept; see test_typing.py. Nobody runs it."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import softline
from softline import SoftmaxClassifier, datasets, export, load_model, optimizers, plots, save_model, schedules
from softline.callbacks import Batch, Epoch
from softline.cs231n.classifiers import LinearSVM, Softmax, TwoLayerNet
from softline.cs231n.classifiers.fc_net import TwoLayerNet as TwoLayerNetOfSolver
from softline.cs231n.data_utils import get_CIFAR10_data
from softline.cs231n.layers import affine_forward, softmax_loss
from softline.cs231n.solver import Solver
from softline.gradient_check import GradientCheck, check_gradient, numerical_gradient
from softline.linear_model import LeastSquaresClassifier, LogisticRegression
from softline.neighbors import KNeighborsClassifier
from softline.neural_network import MLPClassifier

Floats = NDArray[np.floating[Any]]

assert_type(softline.__version__, str)
softline.show_config()
softline.patch_sklearn()

# Data.
data = datasets.load("digits", random_state=0)
assert_type(data, datasets.Dataset)
assert_type(data.X_train, NDArray[Any])
assert_type(data.class_names, list[str] | None)
cifar10 = datasets.load_cifar10("data", validation_fraction=0)
X, y = data.X_train, data.y_train

# The lists that users write are rows, too.
assert_type(SoftmaxClassifier().fit([[0, 1], [1, 0]], ["a", "b"]), SoftmaxClassifier)


# Training.
def stop(epoch: Epoch) -> bool:
    return epoch.loss < 0.1 and epoch.validation_score is not None


def tell(batch: Batch) -> None:
    print(batch.epoch, batch.batch, batch.learning_rate)


model = SoftmaxClassifier(
    alpha=1e-3,
    optimizer=optimizers.Adam(beta1=0.8),
    learning_rate=0.01,
    schedule=schedules.WarmUp(2, then=schedules.Cosine()),
    class_weight={0: 1.0, 1: 2.0},
    random_state=np.random.RandomState(0),
)
model = SoftmaxClassifier(optimizer="adam", schedule="cosine", class_weight="balanced", batch_size=None)
model = SoftmaxClassifier(schedule=lambda epoch, max_iter: 1 - epoch / max_iter)
assert_type(model.fit(X, y, eval_set=(data.X_val, data.y_val), callback=stop), SoftmaxClassifier)
model.fit(X, y, batch_callback=tell).partial_fit(X, y, classes=np.unique(y))
assert_type(model.coef_, Floats)
assert_type(model.classes_, NDArray[Any])
assert_type(model.n_iter_, int)
assert_type(model.loss_curve_, list[float])

# Prediction.
assert_type(model.predict(data.X_test), NDArray[Any])
assert_type(model.predict_proba(data.X_test), Floats)
assert_type(model.predict_log_proba(data.X_test), Floats)
assert_type(model.decision_function(data.X_test), Floats)
assert_type(model.score(data.X_test, data.y_test), float)

# The other models.
logistic = LogisticRegression(C=0.1, solver="saga", l1_ratio=0.5).fit(X, y)
assert_type(logistic, LogisticRegression)
assert_type(logistic.predict_proba(X), Floats)
assert_type(logistic.score(X, y), float)
assert_type(LeastSquaresClassifier(alpha=2).fit(X, y).coef_, Floats)
mlp = MLPClassifier((100, 50), activation="tanh", solver="adamw", learning_rate="cosine", dropout=0.5)
MLPClassifier(l1_ratio=0.5, class_weight="balanced", label_smoothing=0.1, clip_norm=1, max_norm=2.0)
assert_type(mlp.fit(X, y), MLPClassifier)
assert_type(mlp.coefs_, list[Floats])
assert_type(mlp.predict(X), NDArray[Any])
neighbors = KNeighborsClassifier(3, metric="l1", weights="distance").fit(X, y)
assert_type(neighbors.kneighbors(X), tuple[NDArray[Any], NDArray[Any]])
assert_type(neighbors.kneighbors(X, 2, return_distance=False), NDArray[Any])
assert_type(neighbors.predict(X), NDArray[Any])
assert_type(KNeighborsClassifier(metric="cosine").fit(X, y), KNeighborsClassifier)
assert_type(softline.explain(neighbors, X), str)

# Files, test sets, gradients.
save_model(model, "model.safetensors", image_shape=(8, 8))
load_model("model.safetensors").predict(X)
assert_type(datasets.sealed(data.X_test, data.y_test).score(model), float)
assert_type(check_gradient(model, X, y), GradientCheck)
assert_type(numerical_gradient(lambda x: np.sum(x**2), np.ones(3)), NDArray[np.float64])
assert_type(schedules.Step(every=5)(2.5, 10), Any)

# Pictures, and models for elsewhere; what matplotlib, onnx and torch have types for need not be there.
curves = plots.TrainingCurveDisplay.from_estimator(model)
assert_type(curves.plot(), plots.TrainingCurveDisplay)
templates = plots.TemplatesDisplay.from_estimator(model, image_shape=(8, 8), class_names=data.class_names)
templates.plot(templates.axes_).figure_.savefig("templates.png")
regions = plots.DecisionRegionsDisplay.from_estimator(mlp, [[0, 1], [1, 0]], ["a", "b"], ax=curves.axes_[0])
assert_type(regions, plots.DecisionRegionsDisplay)
confusion = plots.ConfusionMatrixDisplay.from_predictions(y, model.predict(X), xticks_rotation=45)
assert_type(confusion.plot(colorbar=False), plots.ConfusionMatrixDisplay)
plots.HeatMapDisplay.from_cv_results({"params": []}, ["alpha", "l1_ratio"]).plot()
export.to_onnx(model, "model.onnx", dtype=np.uint8, image_shape=(8, 8)).SerializeToString()
export.to_torch(mlp, "model.pt")["0.weight"].numpy()
export.from_sklearn(export.to_sklearn(neighbors)).predict(X)

# The course.
course = get_CIFAR10_data(cifar10_dir="data")
assert_type(Softmax().train(course["X_train"], course["y_train"], num_iters=10), list[float])
assert_type(LinearSVM().predict(course["X_val"]), NDArray[Any])
scores, cache = affine_forward(X, np.ones((64, 10)), np.ones(10))
loss, dscores = softmax_loss(scores, y)
assert_type(loss, float)
assert_type(dscores, NDArray[Any])
net = TwoLayerNet(64, 20, 10)
assert_type(net.loss(X), NDArray[Any])
assert_type(net.loss(X, y), tuple[float, dict[str, NDArray[Any]]])
solver = Solver(TwoLayerNetOfSolver(64, 20, 10), course, update_rule="adam", num_epochs=1)
solver.train()
assert_type(solver.best_val_acc, float)
