"""The compliance checker: rules as data over plan and answer, default deny; identifiers masked."""
