package grammar

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// didYouMean is the end of a message about an unknown word: the nearest of the known ones, or "" when none is near.
func didYouMean(word string, known []string) string {
	best, distance := "", min(len(word)/3, 2)+1 // one slip in three letters
	for _, candidate := range known {
		d := editDistance(strings.ToLower(word), strings.ToLower(candidate))
		if d < distance {
			best, distance = candidate, d
		}
	}
	if best == "" {
		best = onlyPrefixed(word, known)
	}
	if best == "" {
		return ""
	}
	return ", did you mean " + best + "?"
}

// onlyPrefixed is the one candidate that starts with the word, "" when there is none or a choice.
func onlyPrefixed(word string, known []string) string {
	found := ""
	for _, candidate := range known {
		if len(word) < 3 || !strings.HasPrefix(candidate, word) {
			continue
		}
		if found != "" {
			return ""
		}
		found = candidate
	}
	return found
}

// editDistance is how many letters have to be added, left out, replaced, or exchanged with their neighbour to make b of
// a, at most 3 (more is not told apart). Letters are bytes: known words are ASCII.
func editDistance(a, b string) int {
	const enough = 3
	if len(a)-len(b) >= enough || len(b)-len(a) >= enough {
		return enough
	}
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range a {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range b {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			row[j+1] = min(last[j]+change, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return min(last[len(b)], enough)
}

// oneOf is a list of words for a message: "a, b or c".
func oneOf(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	end := len(words) - 1
	return strings.Join(words[:end], ", ") + " or " + words[end]
}

// unknownWord is a message about a value that must be one of a few words.
func unknownWord(what, value string, known []string) string {
	if hint := didYouMean(value, known); hint != "" {
		return "cannot use " + what + " " + quoteForMessage(value) + ": it is not known" + hint
	}
	return "cannot use " + what + " " + quoteForMessage(value) + ": it must be " + oneOf(known)
}

// longestShown is how many bytes of a value a message shows.
const longestShown = 200

// quoteForMessage leaves plain words as they are and quotes what would be hard to see otherwise.
func quoteForMessage(value string) string {
	if cut := longestShown; len(value) > cut {
		for !utf8.RuneStart(value[cut]) {
			cut--
		}
		value = value[:cut] + "…"
	}
	if value == "" || strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == ':' }) {
		return strconv.Quote(value)
	}
	return value
}
