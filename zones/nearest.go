package zones

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"richwall/grammar"
)

// suggestion is ": did you mean X?" for the known word that a typo most likely stands for, or "" when none is near. It is looked for
// when the text is asked for, as most texts never are when there are very many mistakes.
type suggestion struct {
	word  string
	known func() []string
	alike func(word, known string) bool // whether a known word that is not near may be meant all the same; nil for never
}

// hint suggests one of some words.
func hint(word string, known ...[]string) suggestion {
	return suggestion{word: word, known: func() []string { return slices.Concat(known...) }}
}

// hintSetting suggests a key of a file of settings, which may have been written with its words in another order.
func hintSetting(key string, known []string) suggestion {
	return suggestion{word: key, known: func() []string { return known }, alike: sharesWords}
}

// wordOfKey is a word in the name of a setting: "Strict" in StrictForwardPorts. Shorter ones say little.
var wordOfKey = regexp.MustCompile(`[A-Z]?[a-z]{2,}|[A-Z]{3,}`)

// sharesWords tells whether a name has more than half of the words of a setting's key, in any order, as ForwardPortsStrict has those of
// StrictForwardPorts. One letter s more or less at their end makes no difference.
func sharesWords(name, key string) bool {
	name, words, shared := strings.ToLower(name), wordOfKey.FindAllString(key, -1), 0
	for _, w := range words {
		if strings.Contains(name, strings.TrimSuffix(strings.ToLower(w), "s")) {
			shared++
		}
	}
	return 2*shared > len(words)
}

// hintKey suggests a key of a map.
func hintKey[T any](word string, known map[string]T) suggestion {
	return suggestion{word: word, known: func() []string { return Names(known) }}
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
	word := strings.ToLower(s.word)
	best, distance := "", 1+max(1, len(word)/3)
	for _, k := range known {
		if len(k) > len(word)+distance || len(word) > len(k)+distance {
			continue
		}
		d := editDistance(word, strings.ToLower(k))
		if d < distance || d == distance && best != "" && likelier(word, strings.ToLower(k), strings.ToLower(best)) {
			best, distance = k, d
		}
	}
	for _, k := range known {
		if best == "" && s.alike != nil && s.alike(s.word, k) {
			best = k
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(": did you mean %s?", best)
}

// likelier tells whether a typo stands for one word rather than for another that is as near: it begins more alike, or else is as long.
func likelier(typo, word, other string) bool {
	if a, b := commonStart(typo, word), commonStart(typo, other); a != b {
		return a > b
	}
	return len(word) == len(typo) && len(other) != len(typo)
}

// commonStart is how many bytes two words have in common at their beginning.
func commonStart(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// switches are words that people write for yes and no, each with what it stands for.
var switches = map[string]string{
	"on": "yes", "1": "yes", "true": "yes", "yes": "yes", "y": "yes", "enable": "yes", "enabled": "yes",
	"off": "no", "0": "no", "false": "no", "no": "no", "n": "no", "none": "no", "disable": "no", "disabled": "no",
}

// hintValue suggests one of the values of a setting. For a word that switches something on or off it is one that does the same, or none: such
// words are near to their opposites.
func hintValue(value string, known []string) suggestion {
	if means, ok := switches[strings.ToLower(value)]; ok {
		i := slices.IndexFunc(known, func(k string) bool { return switches[k] == means })
		if i < 0 {
			return suggestion{}
		}
		known = known[i : i+1]
		return suggestion{word: known[0], known: func() []string { return known }}
	}
	return hint(value, known)
}

// Explanation is the message of an error for which firewalld has other words, if it says more than they do: they are no more than a value,
// or that it is invalid, or are of a rule or of what is bound to another zone, or another word was meant. Otherwise there is none, as where they name the word that was meant
// or end as a sentence, and of a name that does not exist and that is near to none.
func Explanation(err error) []string {
	_, msg := ReasonOf(err)
	code, said := CodeOf(err)
	_, meant, found := strings.Cut(msg, "did you mean ")
	switch {
	case said == msg || strings.HasSuffix(said, ".") || alreadySo[code]:
		return nil
	case found && slices.Contains(strings.FieldsFunc(said, notInName), strings.TrimSuffix(meant, "?")):
		return nil
	case !found && strings.Contains(msg, "there is no "):
		return nil
	case !found && code != grammar.InvalidRule && code != ZoneConflict && strings.Contains(said, " ") && !strings.Contains(said, ": invalid "):
		return nil
	}
	return []string{msg}
}

// alreadySo are the codes of errors that say that something is as it was to become.
var alreadySo = map[grammar.Code]bool{AlreadyEnabled: true, NotEnabled: true, AlreadySet: true, ZoneAlreadySet: true}

// notInName tells whether a character is between words.
func notInName(c rune) bool {
	return !unicode.IsLetter(c) && !unicode.IsDigit(c) && !strings.ContainsRune("-_./:", c)
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
