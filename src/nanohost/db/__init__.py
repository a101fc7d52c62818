"""The central database: migrations, transactions, and one file of SQL an entity."""
