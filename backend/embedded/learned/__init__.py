"""The learned prior: a small text-to-image diffusion model of the built-in world, trained, measured and stored by this package.

model.py     tokenizer, text encoder, denoiser; the pipeline folder
dataset.py   renders and captions, composed on the fly
train.py     the training run, resumable
sampling.py  DDIM over any `DiffusionPrior`; contact sheets
classifier.py, evaluate.py   does a sample show what was asked for?
"""
