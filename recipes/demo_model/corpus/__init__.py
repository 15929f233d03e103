"""The generated text: facts, the passages that hold them, and dialogues that ask for them.

Nothing here is collected from anywhere; every name, number and event is invented at random.
"""
