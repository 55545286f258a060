package grammar

import (
	"strconv"
	"strings"
)

// parseInteger reads a decimal number as firewalld does: blanks around it, a sign, leading zeros and "_" between digits
// are allowed. Digits are ASCII only.
func parseInteger(text string) (int, bool) {
	text = strings.TrimSpace(text)
	digits := strings.TrimLeft(text, "+-")
	if len(text)-len(digits) > 1 || strings.Contains(text, "__") || strings.HasPrefix(digits, "_") || strings.HasSuffix(digits, "_") {
		return 0, false
	}
	n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
	return n, err == nil
}

// parseBased reads a number that may start with 0x, 0o or 0b. A decimal number has no leading zeros.
func parseBased(text string) (int, bool) {
	digits := strings.TrimLeft(strings.TrimPrefix(text, "+"), "0_")
	if digits != "" && len(digits) < len(strings.TrimPrefix(text, "+")) && digits[0] >= '0' && digits[0] <= '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 0, 64)
	return int(n), err == nil
}
