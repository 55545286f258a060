package grammar

import (
	"io"
	"unicode/utf8"

	"github.com/alecthomas/participle/v2/lexer"
)

// Kinds of tokens. A word without "=" is one Word; one with "=" is a Key and a Value, and an Extra for whatever follows
// a further "=" that is not quoted.
const (
	wordToken lexer.TokenType = iota + 1
	keyToken
	valueToken
	extraToken
)

// words is the lexer: it splits text into words as a POSIX shell does.
type words struct{}

// Symbols are the names by which the grammar in tree.go refers to the kinds of tokens.
func (words) Symbols() map[string]lexer.TokenType {
	return map[string]lexer.TokenType{
		"EOF": lexer.EOF, "Word": wordToken, "Key": keyToken, "Value": valueToken, "Extra": extraToken,
	}
}

// Lex reads all of r and splits it.
func (w words) Lex(name string, r io.Reader) (lexer.Lexer, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return w.LexString(name, string(text))
}

// LexString splits text. The error is an ErrorList.
func (words) LexString(_ string, text string) (lexer.Lexer, error) {
	s := &scanner{text: text, line: 1, tokens: make([]lexer.Token, 0, 24)}
	s.checkEncoding()
	for s.skipSeparators(); s.offset < len(s.text); s.skipSeparators() {
		s.word()
	}
	if err := s.errs.Err(); err != nil {
		return nil, err
	}
	s.tokens = append(s.tokens, lexer.EOFToken(s.position(s.offset)))
	return &tokenList{s.tokens}, nil
}

// tokenList hands out tokens that were all found before.
type tokenList struct{ tokens []lexer.Token }

func (l *tokenList) Next() (lexer.Token, error) {
	token := l.tokens[0]
	if !token.EOF() {
		l.tokens = l.tokens[1:]
	}
	return token, nil
}

// scanner finds the tokens of a text.
type scanner struct {
	text      string
	offset    int // bytes
	line      int // from 1
	lineStart int // the offset at which the line starts
	tokens    []lexer.Token
	errs      ErrorList
}

func (s *scanner) position(offset int) lexer.Position {
	return lexer.Position{Offset: offset, Line: s.line, Column: offset - s.lineStart + 1}
}

func (s *scanner) fail(offset int, format string, args ...any) *Error {
	err := newError(InvalidRule, format, args...)
	err.Pos = toPos(s.position(offset))
	s.errs = append(s.errs, err)
	return err
}

func (s *scanner) checkEncoding() {
	if utf8.ValidString(s.text) {
		return
	}
	for i, r := range s.text {
		if _, size := utf8.DecodeRuneInString(s.text[i:]); r == utf8.RuneError && size == 1 {
			s.fail(i, "cannot read byte 0x%02x: a rule is UTF-8 text", s.text[i])
			return
		}
	}
}

// control is how many bytes a control character at i takes, 0 when there is none. Control characters are code points
// 0 to 31 and 127 to 159; the upper ones are two bytes in UTF-8.
func (s *scanner) control(i int) int {
	switch c := s.text[i]; {
	case c < ' ' || c == 0x7f:
		return 1
	case c == 0xc2 && i+1 < len(s.text) && s.text[i+1] < 0xa0:
		return 2
	}
	return 0
}

// skip moves on by n bytes, keeping count of lines.
func (s *scanner) skip(n int) {
	if s.text[s.offset] == '\n' {
		s.line++
		s.lineStart = s.offset + 1
	}
	s.offset += n
}

func (s *scanner) skipSeparators() {
	for s.offset < len(s.text) {
		n := s.control(s.offset)
		if n == 0 && s.text[s.offset] == ' ' {
			n = 1
		}
		if n == 0 {
			return
		}
		s.skip(n)
	}
}

// word reads one word, which starts at the offset, and adds its tokens.
func (s *scanner) word() {
	w := wordScanner{scanner: s, position: s.position(s.offset), start: s.offset, kind: wordToken}
	for s.offset < len(s.text) {
		switch c := s.text[s.offset]; {
		case c == ' ' || s.control(s.offset) > 0:
			w.emit()
			return
		case c == '\'' || c == '"':
			w.quoted(c)
		case c == '\\':
			w.escaped()
		case c == '=':
			w.equals()
		default:
			w.take(1)
		}
	}
	w.emit()
}

// wordScanner reads one word.
type wordScanner struct {
	*scanner
	position lexer.Position // of the word's first byte
	start    int            // offset of the token's first byte
	kind     lexer.TokenType
	rewrites bool   // the token is not the text from start to the offset, but what is in buffer
	buffer   []byte // the token without quotes and backslashes
}

// take adds n bytes of the text to the token.
func (w *wordScanner) take(n int) {
	if w.rewrites {
		w.buffer = append(w.buffer, w.text[w.offset:w.offset+n]...)
	}
	w.skip(n)
}

// drop leaves out one byte, a quote or a backslash.
func (w *wordScanner) drop() {
	if !w.rewrites {
		w.rewrites = true
		w.buffer = append(w.buffer[:0], w.text[w.start:w.offset]...)
	}
	w.skip(1)
}

// emit ends the token before the offset. A word that turns out to have no "=" is a Word.
func (w *wordScanner) emit() {
	value := w.text[w.start:w.offset]
	if w.rewrites {
		value = string(w.buffer)
	}
	w.tokens = append(w.tokens, lexer.Token{Type: w.kind, Value: value, Pos: w.position})
}

// equals ends the key, or a value that has a second "=".
func (w *wordScanner) equals() {
	next := valueToken
	switch w.kind {
	case wordToken:
		w.kind = keyToken
	default:
		next = extraToken
	}
	w.emit()
	w.skip(1)
	w.kind, w.start, w.rewrites = next, w.offset, false
}

// escaped reads a backslash outside quotes and the character it makes literal.
func (w *wordScanner) escaped() {
	at := w.offset
	w.drop()
	switch {
	case w.offset == len(w.text):
		w.fail(at, `cannot read \ at the end: it needs a character behind it`).crash("No escaped character")
	case w.control(w.offset) > 0:
		w.fail(at, `cannot read \ before a control character: only printable characters can be escaped`)
	default:
		w.literal()
	}
}

// literal takes one byte that is not special here. The first "=" of a word separates even so.
func (w *wordScanner) literal() {
	if w.text[w.offset] == '=' && w.kind == wordToken {
		w.equals()
		w.rewrites, w.buffer = true, w.buffer[:0]
		return
	}
	w.take(1)
}

// quoted reads a quoted part of a word. A backslash escapes " and \ within double quotes, and nothing within single ones.
func (w *wordScanner) quoted(quote byte) {
	opening := w.scanner.position(w.offset)
	w.drop()
	for w.offset < len(w.text) {
		c := w.text[w.offset]
		if n := w.control(w.offset); n > 0 {
			r, _ := utf8.DecodeRuneInString(w.text[w.offset:])
			w.fail(w.offset, "cannot take control character %U within quotes: no part of a rule may hold one", r)
			w.skip(n)
			continue
		}
		if c == quote {
			w.drop()
			return
		}
		if c == '\\' && quote == '"' && w.offset+1 < len(w.text) && (w.text[w.offset+1] == '"' || w.text[w.offset+1] == '\\') {
			w.drop()
		}
		w.literal()
	}
	err := newError(InvalidRule, "cannot find the end of this quote: a further %c is missing", quote).crash("No closing quotation")
	err.Pos = toPos(opening)
	w.errs = append(w.errs, err)
}
