        -- The entry's seq in base 64, most significant digit first.
        seq_digits = ''
        local rest = seq_last + 1
        while rest > 0 do
          local digit = rest % 64
          seq_digits, rest = sub(DIGITS, digit + 1, digit + 1) .. seq_digits, (rest - digit) / 64
        end
