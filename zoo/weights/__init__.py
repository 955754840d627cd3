"""Files of weights: choose the file for a model, fetch it to this machine once, verify, parse and load it.

In       a card or a path; installed packages, URLs, local files; safetensors, `torch.save` and Caffe files.
Out      a local file with the expected digest; a network with exactly these weights.

Code in a file is never executed, and a file is loaded completely or not at all.
"""
