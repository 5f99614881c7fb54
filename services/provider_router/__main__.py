"""`python -m provider_router`, `atlas-provider-router`."""

from provider_router.main import main

if __name__ == "__main__":
    main()
