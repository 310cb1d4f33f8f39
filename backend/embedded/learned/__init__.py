"""A small convolutional diffusion model of the built-in world that is trained by gradient descent, and the judges of what such models draw.

What is shipped as the learned prior is `pose_memory`; it shares the tokenizer, the schedule and the pipeline folder.

model.py     tokenizer, text encoder, denoiser; the pipeline folder
dataset.py   pictures and captions, composed on the fly
block_basis.py, pools.py    the coordinates it is trained in, and many views of a description in them
train.py, trainer.py        the training run, resumable; with noise_levels, optimizers, replicas, dense_convolution
sampling.py  DDIM over any `DiffusionPrior`; contact sheets
classifier.py, evaluate.py  does a sample show what was asked for?
"""
