# SPDX-License-Identifier: Apache-2.0
"""`python -m llamafactory_mmself`."""

from .cli import main


raise SystemExit(main())
