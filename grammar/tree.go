package grammar

import (
	"fmt"
	"strings"

	"github.com/alecthomas/participle/v2"
	"github.com/alecthomas/participle/v2/lexer"
)

// Text is a rule as a list of words, before their meaning is looked at.
type Text struct{ Words []*Word }

// Word is one word of a rule, without its quotes: a bare word, or a pair of a key and a value. Key is empty in a bare
// word, Name in a pair.
//
//	accept    port=22    prefix="a b"
type Word struct {
	Pos   lexer.Position // of its first character; the column counts bytes from 1
	Name  string         `parser:"  @Word"`
	Key   string         `parser:"| @Key"`
	Value string         `parser:"  @Value"`
	Extra []string       `parser:"  @Extra*"` // what stands behind each further "=": always a mistake
}

var treeParser = participle.MustBuild[Text](participle.Lexer(words{}))

// Parse reads all words. It does by hand what the tags of Word and a tag of "@@*" say, which takes a fifth of the time; a
// test compares the two.
func (t *Text) Parse(tokens *lexer.PeekingLexer) error {
	for !tokens.Peek().EOF() {
		first := tokens.Next()
		w := &Word{Pos: first.Pos}
		t.Words = append(t.Words, w)
		if first.Type == wordToken {
			w.Name = first.Value
			continue
		}
		w.Key, w.Value = first.Value, tokens.Next().Value
		for tokens.Peek().Type == extraToken {
			w.Extra = append(w.Extra, tokens.Next().Value)
		}
	}
	return nil
}

// ParseTree splits the text of a rule into words and pairs. The error is an ErrorList.
func ParseTree(text string) (*Text, error) {
	if len(text) > maxRule {
		return nil, ErrorList{newError(InvalidRule, "cannot read a rule of %d bytes: the longest has %d", len(text), maxRule)}
	}
	tree, err := treeParser.ParseString("", text)
	if list, ok := err.(ErrorList); ok {
		err = list.first()
	}
	return tree, err
}

// maxRule is how many bytes the text of a rule has at most: many times what any rule has.
const maxRule = 16 << 10

// String shows how a rule was split: a line for each word with its line and column, pairs indented below the bare word
// before them.
func (t *Text) String() string {
	var b strings.Builder
	for _, w := range t.Words {
		fmt.Fprintf(&b, "%-7s ", fmt.Sprintf("%d:%d", w.Pos.Line, w.Pos.Column))
		if w.isPair() {
			fmt.Fprintf(&b, "  %s = %q", w.Key, w.Value)
			for _, extra := range w.Extra {
				fmt.Fprintf(&b, " = %q", extra)
			}
		} else {
			b.WriteString(w.Name)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (w *Word) isPair() bool { return w.Key != "" }

// malformed says what is wrong with a word by itself, "" when nothing is.
func (w *Word) malformed() string {
	switch {
	case w.Key == "" && w.Name == "" && w.Value == "":
		return `cannot read an empty word: write a word or key=value`
	case w.Key == "" && w.Name == "":
		return fmt.Sprintf("cannot read =%s: the name before = is missing", w.Value)
	case len(w.Extra) > 0:
		return fmt.Sprintf(`cannot read a second = in %s: quote a value that holds one, as in %s="%s"`,
			w.Key, w.Key, strings.Join(append([]string{w.Value}, w.Extra...), "="))
	case w.Key != "" && w.Value == "":
		return fmt.Sprintf("cannot set %s to nothing: leave it out, or write a value behind =", w.Key)
	}
	return ""
}

func toPos(p lexer.Position) Pos { return Pos{Offset: p.Offset, Line: p.Line, Column: p.Column} }
