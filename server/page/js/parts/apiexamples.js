/** Code examples for the API, with the address of this server and the name of a job. */

const KEY = "STEERZO_API_KEY";

/**
 * The examples in one language.
 * @param {string} origin The server's address.
 * @param {"curl"|"python"|"openai"} language
 * @param {{job: string}} names The name of a job that has an adapter.
 * @returns {Array<[string, string]>} Title and code of each example.
 */
export function apiExamples(origin, language, { job }) {
  return { curl: curl(origin, job), python: python(origin, job), openai: openai(origin, job) }[language];
}

function curl(origin, job) {
  const key = `-H "Authorization: Bearer $${KEY}"`;
  return [
    ["Upload rows", `curl ${key} \\\n  -F file=@rows.jsonl ${origin}/datasets`],
    [
      "Start a job",
      `curl ${key} -H "Content-Type: application/json" \\\n  -d '{"dataset": "ds_...", "profile": "cpu-demo", "overrides": {"steps": 300}}' \\\n  ${origin}/jobs`,
    ],
    ["Watch it", `curl -N ${key} ${origin}/jobs/${job}/events`],
    [
      "Ask the adapter",
      `curl -N ${key} -H "Content-Type: application/json" \\\n  -d '{"prompt": "play some jazz", "adapter": "${job}", "stream": true}' \\\n  ${origin}/generate`,
    ],
  ];
}

function python(origin, job) {
  const open = `import os\nimport httpx\n\nkey = os.environ.get("${KEY}", "")\nserver = httpx.Client(base_url="${origin}", headers={"Authorization": f"Bearer {key}"}, timeout=None)\n`;
  return [
    [
      "Upload rows and start a job",
      `${open}\nwith open("rows.jsonl", "rb") as file:\n    dataset = server.post("/datasets", files={"file": file}).raise_for_status().json()\njob = server.post("/jobs", json={"dataset": dataset["id"], "profile": "cpu-demo"}).raise_for_status().json()\nprint(job["id"])`,
    ],
    [
      "Ask the adapter",
      `${open}\nanswer = server.post("/generate", json={"prompt": "play some jazz", "adapter": "${job}"})\nprint(answer.raise_for_status().json()["text"])`,
    ],
  ];
}

function openai(origin, job) {
  const open = `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${origin}/v1", api_key=os.environ.get("${KEY}", "none"))\n`;
  return [
    [
      "Ask the adapter",
      `${open}\nstream = client.completions.create(model="${job}", prompt="play some jazz", max_tokens=32, stream=True)\nfor piece in stream:\n    print(piece.choices[0].text, end="")`,
    ],
    [
      "Start a job",
      `${open}\nfile = client.files.create(file=open("rows.jsonl", "rb"), purpose="fine-tune")\njob = client.fine_tuning.jobs.create(model=client.models.list().data[0].id, training_file=file.id)\nprint(job.id)`,
    ],
  ];
}
