"""Who somebody is and what they may do: roles, one-time codes, linked identities, who is denied."""
