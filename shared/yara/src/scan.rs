//! A file's statements by its tokens alone: where each begins and ends, and how high its tree will be.
//!
//! One pass over the bytes, before any parser. A parser is given one statement at a time, so that each is read once and an
//! error stays within it; and no parser, compiler or destructor is given a tree that it could overflow its stack on.

use std::ops::Range;

use memchr::{memchr, memchr3, memmem};

/// What a statement is, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rule,
    Import,
    Include,
    /// What stands between statements and is none.
    Other,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) kind: Kind,
    /// Its bytes in the file.
    pub(super) range: Range<usize>,
    /// The name behind `rule`.
    pub(super) name: Option<Range<usize>>,
    /// No less than the height of its tree, up to [`HEIGHT_COUNTED`].
    pub(super) height: usize,
    /// How deep calls of functions stand within each other.
    pub(super) calls: usize,
    /// Tokens, spaces and comments not counted.
    pub(super) tokens: usize,
}

/// Trees are measured up to here.
const HEIGHT_COUNTED: usize = 1 << 16;

/// What a word is to a statement or to its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Begins(Kind),
    /// `private`, `global`.
    Modifier,
    /// What stands on both sides of it is apart.
    Branch,
    /// It stands before an operand.
    Sign,
    /// It stands between two operands, of which it makes one tree.
    Operator,
    /// Anything else.
    Other,
}

impl Word {
    fn of(word: &[u8]) -> Self {
        match word {
            b"rule" => Self::Begins(Kind::Rule),
            b"import" => Self::Begins(Kind::Import),
            b"include" => Self::Begins(Kind::Include),
            b"private" | b"global" => Self::Modifier,
            b"and" | b"or" => Self::Branch,
            b"not" | b"defined" => Self::Sign,
            b"at" | b"contains" | b"endswith" | b"icontains" | b"iendswith" | b"iequals"
            | b"in" | b"istartswith" | b"matches" | b"of" | b"startswith" => Self::Operator,
            _ => Self::Other,
        }
    }
}

/// Gives the statements of a text in order. One that is cut off ends where the next one begins.
pub(super) fn statements(text: &str, mut take: impl FnMut(Statement)) {
    let mut lexer = Lexer { text: text.as_bytes(), at: 0, is_comment_open: false };
    let mut open: Option<Open> = None;
    // Where the modifiers began that were read last, and where the token before them ends.
    let mut modifiers: Option<(usize, usize)> = None;
    let mut end = 0;
    while let Some((token, range)) = lexer.next() {
        let is_within = || open.as_ref().is_some_and(|open| open.braces > 0);
        match token {
            Token::Word(Word::Begins(kind)) if kind == Kind::Rule || !is_within() => {
                let (start, end) = match modifiers.take() {
                    Some(before) if kind == Kind::Rule => before,
                    _ => (range.start, end),
                };
                if let Some(before) = open.take().filter(|open| open.statement.range.start < start)
                {
                    take(before.until(end));
                }
                open = Some(Open::new(kind, start));
            }
            Token::Word(Word::Modifier) => modifiers = modifiers.or(Some((range.start, end))),
            _ => modifiers = None,
        }
        end = range.end;
        let statement = open.get_or_insert_with(|| Open::new(Kind::Other, range.start));
        if statement.add(token, &range)
            && let Some(whole) = open.take()
        {
            take(whole.until(end));
        } else if let Some(statement) = &mut open
            && statement.hex.is_some()
        {
            statement.statement.tokens += lexer.skip_hexadecimal();
        }
    }
    if let Some(last) = open {
        take(last.until(end));
    }
}

/// A statement on its way.
struct Open {
    statement: Statement,
    /// Those outside of the innermost, which is `level`.
    outer: Vec<Level>,
    level: Level,
    /// Curly brackets that are open.
    braces: usize,
    /// How many were open before the hexadecimal string that is being read.
    hex: Option<usize>,
    is_value_next: bool,
}

/// What stands between two brackets.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    /// The highest tree that is finished.
    highest: usize,
    /// The tree before the operator that was read last.
    left: usize,
    /// Signs before the operand that is being read.
    signs: usize,
    /// The operand.
    operand: usize,
    /// Whether these are the brackets of a call or of a place in a list.
    is_call: bool,
    /// The calls that this stands within.
    calls: usize,
}

impl Level {
    fn tree(self) -> usize {
        self.left.max(self.operand + self.signs)
    }

    fn height(self) -> usize {
        self.highest.max(self.tree()) + 1
    }

    fn operand(&mut self) {
        self.operand = self.operand.max(1);
    }

    fn operator(&mut self) {
        if self.operand == 0 {
            self.signs += 1;
        } else {
            *self = Self { left: self.tree() + 1, operand: 0, signs: 0, ..*self };
        }
    }

    /// What comes next stands beside what came before, however much there is of it.
    fn branch(&mut self) {
        *self = Self {
            highest: self.highest.max(self.tree()),
            is_call: self.is_call,
            calls: self.calls,
            ..Self::default()
        };
    }
}

impl Open {
    fn new(kind: Kind, start: usize) -> Self {
        let range = start..start;
        let statement = Statement { kind, range, name: None, height: 0, calls: 0, tokens: 0 };
        let level = Level::default();
        Self { statement, outer: Vec::new(), level, braces: 0, hex: None, is_value_next: false }
    }

    fn until(mut self, end: usize) -> Statement {
        while !self.outer.is_empty() {
            self.close();
        }
        self.statement.height = self.level.height();
        self.statement.range.end = end;
        self.statement
    }

    /// Adds a token; says whether the statement ends with it.
    fn add(&mut self, token: Token, range: &Range<usize>) -> bool {
        self.statement.tokens += 1;
        match self.statement.kind {
            Kind::Other => return false,
            Kind::Import | Kind::Include => return self.statement.tokens == 2,
            Kind::Rule => {}
        }
        let was_value = std::mem::take(&mut self.is_value_next);
        match token {
            Token::Open(byte) => {
                self.open(byte);
                if byte == b'{' {
                    self.hex = self.hex.or(was_value.then_some(self.braces));
                    self.braces += 1;
                }
            }
            Token::Close(byte) => {
                self.close();
                if byte == b'}' && self.braces > 0 {
                    self.braces -= 1;
                    self.hex = self.hex.filter(|before| *before < self.braces);
                    return self.braces == 0;
                }
            }
            _ if self.hex.is_some() => {}
            Token::Operator(byte) => {
                self.is_value_next = byte == b'=';
                match byte {
                    b',' | b':' | b'=' => self.level.branch(),
                    b'.' => {}
                    _ => self.level.operator(),
                }
            }
            Token::Value => self.level.operand(),
            Token::Word(word) => {
                if self.statement.name.is_none()
                    && !matches!(word, Word::Begins(_) | Word::Modifier)
                {
                    self.statement.name = Some(range.clone());
                }
                let level = &mut self.level;
                match word {
                    Word::Branch => level.branch(),
                    Word::Sign => level.signs += 1,
                    Word::Operator => level.operator(),
                    Word::Begins(_) | Word::Modifier | Word::Other => level.operand(),
                }
            }
        }
        false
    }

    fn open(&mut self, byte: u8) {
        let is_call = self.level.operand > 0;
        let calls = self.level.calls + usize::from(is_call && byte == b'(');
        self.statement.calls = self.statement.calls.max(calls);
        if self.outer.len() < HEIGHT_COUNTED {
            let inner = Level { is_call, calls, ..Level::default() };
            self.outer.push(std::mem::replace(&mut self.level, inner));
        }
    }

    fn close(&mut self) {
        if let Some(outer) = self.outer.pop() {
            let inner = std::mem::replace(&mut self.level, outer);
            let height = self.level.operand.max(inner.height());
            self.level.operand = height + usize::from(inner.is_call && self.hex.is_none());
        }
    }
}

/// What kind of token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Word(Word),
    /// A text, an expression, a string's name.
    Value,
    Open(u8),
    Close(u8),
    /// A sign; what compares is `<`.
    Operator(u8),
}

struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    /// Whether no comment that begins from here on is closed.
    is_comment_open: bool,
}

impl Lexer<'_> {
    /// Passes over what only a hexadecimal string is made of; gives about as many tokens as there are. Parsers have limits of
    /// their own on how deep such a string is.
    fn skip_hexadecimal(&mut self) -> usize {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = run(rest, is_hexadecimal);
        self.at += length;
        length / 3
    }

    /// The next token that is neither space nor comment.
    fn next(&mut self) -> Option<(Token, Range<usize>)> {
        let text = self.text;
        loop {
            let start = self.at;
            let byte = *text.get(start)?;
            let rest = text.get(start + 1..).unwrap_or_default();
            let (token, length) = match byte {
                b' ' | b'\t' | b'\r' | b'\n' => (None, run(rest, is_space)),
                b'/' if rest.first() == Some(&b'/') => {
                    (None, memchr(b'\n', rest).unwrap_or(rest.len()))
                }
                b'/' if rest.first() == Some(&b'*') && !self.is_comment_open => {
                    let end = memmem::find(rest.get(1..).unwrap_or_default(), b"*/");
                    self.is_comment_open = end.is_none();
                    (None, end.map_or(rest.len(), |end| end + 3))
                }
                b'/' => (Some(Token::Value), quoted(rest, b'/')),
                b'"' if rest.starts_with(b"\"\"") => (Some(Token::Value), of_lines(rest)),
                b'"' => (Some(Token::Value), quoted(rest, b'"')),
                b'=' | b'!' | b'<' | b'>' if rest.first() == Some(&b'=') => {
                    (Some(Token::Operator(b'<')), 1)
                }
                b'$' | b'#' | b'@' | b'!' => (Some(Token::Value), run(rest, is_word)),
                b'(' | b'[' | b'{' => (Some(Token::Open(byte)), 0),
                b')' | b']' | b'}' => (Some(Token::Close(byte)), 0),
                byte if is_word(byte) => {
                    let length = run(rest, is_word);
                    let word = text.get(start..=start + length).unwrap_or_default();
                    (Some(Token::Word(Word::of(word))), length)
                }
                byte => (Some(Token::Operator(byte)), 0),
            };
            self.at = start + 1 + length;
            if let Some(token) = token {
                return Some((token, start..self.at));
            }
        }
    }
}

/// Up to the end of a text of several lines, which holds no quote; else of the empty text that stands there.
fn of_lines(rest: &[u8]) -> usize {
    let inner = rest.get(2..).unwrap_or_default();
    let end = memchr(b'"', inner).filter(|end| inner[*end..].starts_with(b"\"\"\""));
    end.map_or(1, |end| end + 5)
}

/// What hexadecimal strings are made of, but for comments.
fn is_hexadecimal(byte: u8) -> bool {
    byte.is_ascii_hexdigit() || is_space(byte) || b"?~-[]()|".contains(&byte)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// How many of the first bytes are of a kind.
fn run(rest: &[u8], is: impl Fn(u8) -> bool) -> usize {
    rest.iter().position(|byte| !is(*byte)).unwrap_or(rest.len())
}

/// Up to the end of a text or an expression that `quote` closes, which is the end of the line where it is not closed.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 0;
    while let Some(found) = rest.get(at..).and_then(|rest| memchr3(quote, b'\\', b'\n', rest)) {
        at += found;
        match rest.get(at) {
            Some(b'\\') => at += 1 + usize::from(rest.get(at + 1) != Some(&b'\n')),
            Some(b'\n') => return at,
            _ => return at + 1,
        }
    }
    rest.len()
}
