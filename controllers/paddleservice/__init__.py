"""The controller of PaddleServices."""

from .reconciler import PaddleServiceReconciler as PaddleServiceReconciler
from .setup import setup as setup
