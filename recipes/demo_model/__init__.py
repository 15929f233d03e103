"""The small offline chat model: a recipe that trains it from nothing in minutes on one GPU.

python -m recipes.demo_model.train --out DIR
"""
