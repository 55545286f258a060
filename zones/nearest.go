package zones

import (
	"fmt"
	"slices"
	"strings"

	"richwall/grammar"
)

// suggestion is ": did you mean X?" for the known word that a typo most likely stands for, or "" when none is near. It is looked for
// when the text is asked for, as most texts never are when there are very many mistakes.
type suggestion struct {
	word  string
	known func() []string
}

// hint suggests one of some words.
func hint(word string, known ...[]string) suggestion {
	return suggestion{word, func() []string { return slices.Concat(known...) }}
}

// hintKey suggests a key of a map.
func hintKey[T any](word string, known map[string]T) suggestion {
	return suggestion{word, func() []string { return Names(known) }}
}

// The longest word that is looked for, in bytes, as nobody mistypes more; and the most words that it is looked for in.
const (
	longestTypo = 64
	mostKnown   = 2000
)

// String is the text, "" when there is none.
func (s suggestion) String() string {
	if len(s.word) > longestTypo || s.known == nil {
		return ""
	}
	known := s.known()
	if len(known) > mostKnown {
		return ""
	}
	best, distance := "", 1+max(1, len(s.word)/3)
	for _, k := range known {
		if len(k) >= len(s.word)+distance || len(s.word) >= len(k)+distance {
			continue
		}
		if d := editDistance(strings.ToLower(s.word), strings.ToLower(k)); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// Meant is the message of an error whose code is about a name or a word, if it says which one was meant; otherwise none. There is
// none where firewalld's own words of the same error name it.
func Meant(err error) []string {
	code, msg := ReasonOf(err)
	_, meant, found := strings.Cut(msg, "did you mean ")
	if _, said := CodeOf(err); !aboutWords[code] || !found || strings.Contains(said, strings.TrimSuffix(meant, "?")) {
		return nil
	}
	return []string{msg}
}

// aboutWords are the codes of errors about names that do not exist and words that the language of rules does not have.
var aboutWords = map[grammar.Code]bool{
	grammar.InvalidRule: true, grammar.InvalidIPSet: true, grammar.InvalidProtocol: true, InvalidZone: true, InvalidPolicy: true,
	InvalidService: true, InvalidICMPType: true, InvalidHelper: true, InvalidOption: true, InvalidType: true,
}

// Nearest is "did you mean X?" for the known word that a typo most likely stands for, or "" when none is near.
func Nearest(word string, known []string) string {
	return strings.TrimPrefix(hint(word, known).String(), ": ")
}

// editDistance is the least number of bytes to insert, remove, replace, or exchange with the next one (optimal string
// alignment).
func editDistance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := rows[i-1][j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			rows[i][j] = min(change, rows[i-1][j]+1, rows[i][j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
