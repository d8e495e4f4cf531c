"""How the weight of a frozen linear layer is stored: one file for each value of the setting `model.quantization`.

The file is named after the value and holds a `Storage` called STORAGE; `four_bit.py` is what nf4 and fp4 share. The
list of values is in `model/quantization.py`.
"""
