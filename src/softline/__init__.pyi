"""What `softline/__init__.py` hands on lazily, for type checkers and editors."""

from softline import cs231n as cs231n
from softline import datasets as datasets
from softline import export as export
from softline import gradient_check as gradient_check
from softline import linear_model as linear_model
from softline import model_file as model_file
from softline import neighbors as neighbors
from softline import neural_network as neural_network
from softline import optimizers as optimizers
from softline import plots as plots
from softline import reference as reference
from softline import report as report
from softline import schedules as schedules
from softline._estimators.served import explain as explain
from softline._estimators.softmax_classifier import SoftmaxClassifier as SoftmaxClassifier
from softline.config import show_config as show_config
from softline.model_file import load_model as load_model
from softline.model_file import save_model as save_model
from softline.patch import patch_sklearn as patch_sklearn
from softline.patch import unpatch_sklearn as unpatch_sklearn

__version__: str
