"""SSL transfer: which pretrained backbone serves which medical data set?"""
