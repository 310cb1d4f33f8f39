"""The pose memory: a text-to-image diffusion model of the built-in world whose weights are fitted by least squares.

pictures.py      what is remembered: views of every object from many poses, in linear codes
tokens.py        the directions of the text encoder's tokens
text_encoder.py  a CLIP text encoder that tells what the described object looks like from each pose
factors.py       how pictures depend on paint and backdrop
units.py         an MLP's units as linear maps that gates switch
regression.py    how its linear maps are fitted
denoiser.py      a UNet that is the posterior mean over what it is told
fit.py           the command that makes the pipeline folder
"""
