"""`python -m tools.pretrain_base`."""

from tools.pretrain_base.command import main

main()
