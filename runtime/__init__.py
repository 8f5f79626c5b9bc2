"""The inference server: one front process (HTTP, queues, supervision) and one process for each loaded model.

The front never imports Paddle or numpy; a worker never opens a socket of its own. They share a descriptor
socket and a memory arena (`frames`, `arena`). Nothing here knows of Kubernetes.
"""
