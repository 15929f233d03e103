"""Staging: a model or a dataset from the Hugging Face Hub into the deployment's bucket, once and checked.

    python -m staging --model ORG/NAME --revision COMMIT --bucket NAME

It runs in CodeBuild (the Weights stack starts it) and on any machine with credentials for the bucket
(`ock stage --local`). The endpoint reads the bucket alone and never calls the hub. What lies in the bucket
afterwards: the files a server needs, weights as safetensors only, and `manifest.json`, written last, with
size and SHA-256 of each. A prefix without a manifest is not staged.

It stands alone: nothing here imports the chatbot, the client or the stacks, and they do not import it.

    program   one run: look, download, convert, upload, manifest
    selection which files of a repository are wanted
    convert   pickled shards to safetensors     shards   headers and the index of shards
    hub       the Hugging Face Hub              bucket   Amazon S3
    manifest  what a staged prefix holds        secret   the hub token
    progress  lines with a rate                 cli      arguments, exit status

Limits: a download that was cut off resumes at the last whole file, not within one; a repository is read at
one commit; nothing is ever deleted from the bucket.
"""
