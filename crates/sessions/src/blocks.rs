//! What is said in a message: text, thoughts, calls of tools and what they gave.
//!
//! In: the JSON that stands where a rule says `content`. Out: [`Block`]s. Agents write few shapes: those
//! of the interfaces of Anthropic, OpenAI and Google, and Goose's, OpenCode's and Cursor's own. An object
//! of another shape is passed over, unless it has a `text`.

use serde_json::Value;

/// A piece of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Block {
    /// What is said.
    Text(String),
    /// What is thought.
    Thought(String),
    /// A tool is called.
    Call {
        /// Its name.
        name: String,
        /// What it gets: JSON, or text.
        input: String,
    },
    /// What a tool gave.
    Result(String),
    /// Something that is no text, such as a picture.
    Other(String),
}

/// How deep content lies in content, at most.
const DEPTH_MAX: u32 = 16;

/// Adds the blocks of a value.
pub(crate) fn blocks(value: &Value, out: &mut Vec<Block>) {
    walk(value, 0, out);
}

fn walk(value: &Value, depth: u32, out: &mut Vec<Block>) {
    if depth > DEPTH_MAX {
        return;
    }
    match value {
        Value::String(text) if !text.trim().is_empty() => out.push(Block::Text(text.clone())),
        Value::Array(list) => list.iter().for_each(|item| walk(item, depth + 1, out)),
        Value::Object(_) => object(value, depth, out),
        _ => {}
    }
}

fn object(value: &Value, depth: u32, out: &mut Vec<Block>) {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    match text("type") {
        "thinking" => out.extend(thought(text("thinking"))),
        "reasoning" => {
            out.extend(thought(text("text")));
            let mut inner = Vec::new();
            walk(&value["summary"], depth + 1, &mut inner);
            out.extend(inner.into_iter().filter_map(|block| match block {
                Block::Text(text) => thought(&text),
                _ => None,
            }));
        }
        "tool_use" | "server_tool_use" | "custom_tool_call" => {
            call(text("name"), &value["input"], out);
        }
        "function_call" => call(text("name"), &value["arguments"], out),
        "local_shell_call" => call("shell", &value["action"], out),
        "web_search_call" => call("web_search", &value["action"], out),
        "tool_result" | "web_search_tool_result" => result(&value["content"], depth, out),
        "function_call_output" | "custom_tool_call_output" => result(&value["output"], depth, out),
        "toolRequest" => {
            let asked = &value["toolCall"]["value"];
            call(asked["name"].as_str().unwrap_or_default(), &asked["arguments"], out);
        }
        "toolResponse" => {
            let given = &value["toolResult"]["value"];
            let given = if given["content"].is_array() { &given["content"] } else { given };
            result(given, depth, out);
        }
        "tool" => {
            let state = &value["state"];
            call(text("tool"), &state["input"], out);
            result(&state["output"], depth, out);
        }
        "message" => walk(&value["content"], depth + 1, out),
        "image" | "input_image" | "image_url" | "document" | "file" => {
            out.push(Block::Other(text("type").to_owned()));
        }
        _ => untyped(value, depth, out),
    }
}

/// Objects that are known by their keys.
fn untyped(value: &Value, depth: u32, out: &mut Vec<Block>) {
    let text = |key: &str| value[key].as_str().unwrap_or_default();
    if !text("text").trim().is_empty() {
        out.push(Block::Text(text("text").to_owned()));
    }
    let tool = &value["toolFormerData"];
    if let Some(name) = tool["name"].as_str() {
        let input = ["rawArgs", "params"].map(|key| &tool[key]);
        call(name, input.into_iter().find(|input| !input.is_null()).unwrap_or(&Value::Null), out);
        result(&tool["result"], depth, out);
    }
    if value["functionCall"].is_object() {
        let asked = &value["functionCall"];
        call(asked["name"].as_str().unwrap_or_default(), &asked["args"], out);
    }
    if value["functionResponse"].is_object() {
        result(&value["functionResponse"]["response"]["output"], depth, out);
    }
    if value["args"].is_object() && value["name"].is_string() {
        call(text("name"), &value["args"], out);
        let given = &value["result"];
        let given = if given.is_null() { &value["resultDisplay"] } else { given };
        result(given, depth, out);
    }
}

fn thought(text: &str) -> Option<Block> {
    (!text.trim().is_empty()).then(|| Block::Thought(text.to_owned()))
}

fn call(name: &str, input: &Value, out: &mut Vec<Block>) {
    let input = match input {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let name = if name.is_empty() { "tool" } else { name };
    out.push(Block::Call { name: name.to_owned(), input });
}

/// What a tool gave, as one text.
fn result(value: &Value, depth: u32, out: &mut Vec<Block>) {
    if value.is_null() {
        return;
    }
    let mut inner = Vec::new();
    walk(value, depth + 1, &mut inner);
    let mut texts: Vec<String> = inner
        .into_iter()
        .filter_map(|block| match block {
            Block::Text(text) | Block::Result(text) => Some(text),
            Block::Other(what) => Some(format!("[{what}]")),
            _ => None,
        })
        .collect();
    if texts.is_empty() && value.is_object() {
        texts.push(value.to_string());
    }
    out.push(Block::Result(texts.join("\n")));
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value, reason = "so that a test reads as what it says")]
    fn of(value: Value) -> Vec<Block> {
        let mut out = Vec::new();
        blocks(&value, &mut out);
        out
    }

    fn text(text: &str) -> Block {
        Block::Text(text.to_owned())
    }

    fn called(name: &str, input: &str) -> Block {
        Block::Call { name: name.to_owned(), input: input.to_owned() }
    }

    fn gave(text: &str) -> Block {
        Block::Result(text.to_owned())
    }

    #[test]
    fn each_shape_that_agents_write_is_read() {
        assert_eq!(of(json!("hi")), [text("hi")]);
        let anthropic = json!([
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "ok"},
            {"type": "tool_use", "name": "Bash", "input": {"command": "ls"}},
            {"type": "tool_result", "content": [{"type": "text", "text": "a b"}]},
            {"type": "image", "source": {"data": "AAAA"}}
        ]);
        let expected = [
            Block::Thought("hm".to_owned()),
            text("ok"),
            called("Bash", r#"{"command":"ls"}"#),
            gave("a b"),
            Block::Other("image".to_owned()),
        ];
        assert_eq!(of(anthropic), expected);
        let openai = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "q"}]});
        assert_eq!(of(openai), [text("q")]);
        let openai = json!({"type": "function_call", "name": "shell", "arguments": "{\"a\":1}"});
        assert_eq!(of(openai), [called("shell", "{\"a\":1}")]);
        let output = json!({"type": "function_call_output", "output": "done"});
        assert_eq!(of(output), [gave("done")]);
        let google = json!({"functionCall": {"name": "read", "args": {"p": 1}}});
        assert_eq!(of(google), [called("read", r#"{"p":1}"#)]);
        let gemini = json!([{"id": "1", "name": "read", "args": {"p": 1},
            "result": [{"functionResponse": {"response": {"output": "text"}}}]}]);
        assert_eq!(of(gemini), [called("read", r#"{"p":1}"#), gave("text")]);
        let goose = json!([
            {"type": "toolRequest", "toolCall": {"status": "success", "value": {"name": "shell", "arguments": {"c": "ls"}}}},
            {"type": "toolResponse", "toolResult": {"status": "success", "value": [{"type": "text", "text": "a"}]}}
        ]);
        assert_eq!(of(goose), [called("shell", r#"{"c":"ls"}"#), gave("a")]);
        let opencode =
            json!({"type": "tool", "tool": "bash", "state": {"input": {"c": "ls"}, "output": "a"}});
        assert_eq!(of(opencode), [called("bash", r#"{"c":"ls"}"#), gave("a")]);
        let cursor = json!({"type": 2, "text": "ok", "toolFormerData": {"name": "edit", "rawArgs": "{}", "result": "{\"r\":1}"}});
        assert_eq!(of(cursor), [text("ok"), called("edit", "{}"), gave("{\"r\":1}")]);
    }

    #[test]
    fn content_in_content_has_an_end() {
        let mut deep = json!("x");
        for _ in 0..100 {
            deep = json!([deep]);
        }
        assert_eq!(of(deep), []);
    }
}
