-- Numbers in records have these digits; a record ends in its fingerprint and two of them.
local DIGITS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'
local RECORD_END_LENGTH = 8
