"""Asks a running web app from outside whether it is deployed as it should be."""
